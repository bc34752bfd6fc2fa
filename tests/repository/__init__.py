"""Tests of the import of repositories."""
