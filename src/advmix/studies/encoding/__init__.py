"""`advmix study encoding`: how good is each encoder?"""
