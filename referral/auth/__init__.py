"""Who somebody is: passwords, access tokens and the keys that sign them."""
