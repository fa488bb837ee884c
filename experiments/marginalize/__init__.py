"""Answers averaged over random z⊥."""
