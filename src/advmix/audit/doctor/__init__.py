"""What a run's files say about its health: measurements, each with a verdict, a reason and a remedy.

`measure` and `probe` turn networks, images and latents into numbers; `diagnose` turns numbers into `Finding`s.
"""
