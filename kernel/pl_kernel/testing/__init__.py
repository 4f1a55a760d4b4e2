"""What a plugin author's tests reuse: fixtures (found by pytest by themselves) and contract tests."""
