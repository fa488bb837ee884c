"""The paper's toy example in the plane."""
