"""Stages: each reads the folders of earlier ones and writes one."""
