"""What every HTML page of ours shares: one file that works offline, its look, its charts and their pictures."""
