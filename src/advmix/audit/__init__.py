"""Audits: measuring a classifier."""
