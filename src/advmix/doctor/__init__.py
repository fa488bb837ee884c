"""`advmix doctor`: are generator, pool, split and search fit for their use?"""
