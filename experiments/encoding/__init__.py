"""Algorithm 2: latents by optimisation."""
