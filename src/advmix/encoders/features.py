"""Perceptual features of any module, for losses that compare images by what a network sees in them."""

from __future__ import annotations

from torch import Tensor, nn


class Activations(nn.Module):
    """The outputs of all inner modules of some kinds, in the order in which they run.

    >>> maps = Activations(network)(images)                  # after every ReLU
    >>> maps = Activations(vgg16().features, (nn.MaxPool2d,))(images)

    Args:
        module: any network; its parameters are not touched.
        kinds: types of the inner modules to listen to.
    """

    def __init__(
        self, module: nn.Module, kinds: tuple[type[nn.Module], ...] = (nn.ReLU, nn.LeakyReLU, nn.GELU, nn.SiLU)
    ) -> None:
        super().__init__()
        self.module, self.kinds = module, kinds
        if not any(isinstance(inner, kinds) for inner in module.modules()):
            raise ValueError(f"no {' or '.join(kind.__name__ for kind in kinds)} in {type(module).__name__}")

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images as the module wants them to a list of tensors."""
        found: list[Tensor] = []

        def listen(_: nn.Module, __: object, output: Tensor) -> None:
            found.append(output.clone())

        hooks = [
            inner.register_forward_hook(listen) for inner in self.module.modules() if isinstance(inner, self.kinds)
        ]
        try:
            self.module(images)
        finally:
            for hook in hooks:
                hook.remove()
        return found
