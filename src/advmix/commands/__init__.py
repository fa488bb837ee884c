"""The short commands, a file each: settings, and the function that runs them."""
