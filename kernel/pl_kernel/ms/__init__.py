"""The domain model: what a measurement set holds, as frozen records that travel as JSON and between processes."""
