"""Reports over runs: what differs between two, where time went, how many runs did."""
