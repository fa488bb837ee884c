"""Other people's generators, read without running anything of theirs."""
