"""A self-hosted service for referral programmes: accounts, codes, and who came by whom."""

__version__ = "1.0.0"
