"""`advmix study search`: is the maximisation strong enough?"""
