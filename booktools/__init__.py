"""The tools that run, compare and render the chapters; readers do not need them."""
