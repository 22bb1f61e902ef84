"""The page of the server: its files in `static`, and the reports that it lists and opens."""
