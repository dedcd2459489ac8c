"""A boto3 client for the ledger's table."""

from __future__ import annotations

from typing import Any, Final

from fanfold.errors import ConfigurationError
from fanfold.ledgers.dynamodb.address import Address

CONNECTIONS: Final = 16


def make_client(address: Address) -> Any:
    """A boto3 DynamoDB client; region, endpoint and credentials are boto3's where the address doesn't say.

    Raises:
        ConfigurationError: boto3 can't make a client, for want of a region for instance.
    """
    import boto3.session  # noqa: PLC0415 - only who uses DynamoDB pays for the import
    from botocore.config import Config  # noqa: PLC0415
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415

    config = Config(
        retries={"mode": "standard", "max_attempts": 4},
        connect_timeout=5,
        read_timeout=10,
        max_pool_connections=CONNECTIONS,
        tcp_keepalive=True,
    )
    try:
        session = boto3.session.Session(region_name=address.region)
        # What stands in for DynamoDB has no regions, but signatures name one.
        region = session.region_name or ("us-east-1" if address.endpoint_url else None)
        return session.client("dynamodb", region_name=region, endpoint_url=address.endpoint_url, config=config)
    except (BotoCoreError, ValueError) as error:
        raise ConfigurationError(
            f"ledger dynamodb://{address.table}: no client: {error}. Check region and endpoint_url in the URL, "
            "AWS_DEFAULT_REGION, AWS_PROFILE"
        ) from error
