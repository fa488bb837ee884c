"""What every part needs: files, runs, settings, devices, progress, errors."""
