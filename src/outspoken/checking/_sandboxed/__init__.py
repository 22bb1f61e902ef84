"""What runs inside: a bare Python starts this package by its folder alone, so that it imports nothing of ours."""
