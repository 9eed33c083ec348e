"""The account that every emulator of Azure Blob Storage has; its key is public."""

from __future__ import annotations

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def connection_string(origin: str) -> str:
    """What Azure's programs are told, for a server at this origin."""
    return f"AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={origin}/{ACCOUNT};"
