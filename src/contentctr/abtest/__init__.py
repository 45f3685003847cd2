"""Online A/B tests: exposure logs, their statistics, a simulated replay, the report page."""
