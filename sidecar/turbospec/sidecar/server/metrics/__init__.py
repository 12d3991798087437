"""Metrics for Prometheus: what is counted, what it is called, and the endpoint where it is scraped."""
