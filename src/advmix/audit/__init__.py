"""`advmix audit`: what flips a classifier, from its settings to its page."""
