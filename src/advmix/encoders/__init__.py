"""Encoders: a network, the optimisation of Algorithm 2, and the store that keeps what they found."""
