"""Generators: `dec`, in two stages; the style network (AdaIN), StyleGAN's and StyleGAN2's."""
