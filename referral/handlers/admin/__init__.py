"""The pages of the back office, `/admin`: one file an area."""
