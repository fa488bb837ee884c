"""What is kept of decoded images, and where."""

from __future__ import annotations

from dataclasses import dataclass

from rich.filesize import decimal

from advmix.data.photos.pixel_cache import PixelCache
from advmix.utils.config import Settings
from advmix.utils.progress import console


@dataclass(frozen=True)
class CacheConfig(Settings):
    """Show the cache of decoded images, or empty it. Images are decoded once and kept in a folder that all commands
    read: `--cache DIR`, else `$ADVMIX_CACHE`, else the user's cache folder; `none` keeps nothing.

    Args:
        clear: remove everything in it; it is made again when it is needed.
    """

    clear: bool = False


def run_cache(config: CacheConfig) -> None:
    """Print where it is and what it takes."""
    cache = PixelCache.named()
    if cache is None:
        console.print("  no cache: images are decoded anew by each command")
    elif config.clear:
        console.print(f"  {cache.folder}: {decimal(cache.clear())} removed", markup=False)
    else:
        count, limit = len(cache.entries), decimal(cache.limit)
        console.print(
            f"  {cache.folder}: {count:,} {'entry' if count == 1 else 'entries'}, {decimal(cache.bytes)} of at most "
            f"{limit} (--cache-size)",
            markup=False,
        )
