"""Credentials that are nobody's, as users have them in their environment."""

SECRET = "wJalrXUtnFEMIsecretK7MDENGbPxRfiCYsecretKEY"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7FOOTFAL",
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_SESSION_TOKEN": f"token-{SECRET}",
    "AWS_DEFAULT_REGION": "us-east-1",
    # No machine's own files or role.
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "AWS_EC2_METADATA_DISABLED": "true",
}
