"""A classifier for a new site, from unlabelled images of it."""
