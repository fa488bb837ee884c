"""`advmix study toy`: the method in the plane."""
