"""`python -m experiments gallery`: six audits of small classifiers whose shortcuts are known."""
