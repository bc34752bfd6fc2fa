"""The tests that take long, run as a whole: `make slow`; what came of the last run is in docs/slow-results.md."""
