"""`advmix study celeba`: is a classifier of faces right more often, and more robust, when it is trained on mixes?"""
