"""Why results are not found: keys beside the nearest earlier ones, and code beside what was noted of it then."""
