"""The client of whoever reads and writes as workers do: its connection, converter, codecs and storage."""

from __future__ import annotations

import dataclasses
from typing import Any

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.contrib.pydantic import PydanticPayloadConverter
from temporalio.converter import DataConverter, DefaultFailureConverter, DefaultPayloadConverter
from temporalio.envconfig import ClientConfig
from temporalio.runtime import Runtime
from temporalio.service import RPCError

from activities.contract.limits import STORED_FROM, STORED_LIMIT
from activities.errors import SettingInvalid
from activities.housekeeping.pages import PagesCodec
from activities.payloads.codecs import Codecs, codecs_of
from activities.payloads.encryption import EncryptionCodec
from activities.payloads.hiding import HidingCodec
from activities.payloads.store import days_from_environment, storage_from_environment, store_of
from activities.values.converter import FailureSealed, data_converter
from workflows.errors import SettingsInvalid
from workflows.serving.sdk import innermost_message


async def connect(address: str | None = None, runtime: Runtime | None = None) -> Client:
    """Connect to the server at an address, or else to the one that Temporal's environment settings and profile name.

    Args:
        address: Of the server.
        runtime: What serves metrics, where they are wanted.

    Raises:
        SettingsInvalid: The settings can't be read, nothing answers there, or it has no such namespace.
    """
    try:
        config = {"target_host": address} if address else ClientConfig.load_client_connect_config()
    except RuntimeError as error:
        raise SettingsInvalid(f"Temporal's settings can't be used: {' '.join(str(error).split())}.") from error
    address = config.setdefault("target_host", "localhost:7233")
    try:
        client = await open_client(**config, runtime=runtime)
        await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=client.namespace))
    except RPCError as error:
        raise SettingsInvalid(f"The Temporal server at {address} refuses: {error.message}") from error
    except RuntimeError as error:
        raise SettingsInvalid(
            f"No Temporal server answers at {address}: {innermost_message(error)}. "
            "Start one with 'python worker.py dev', or set TEMPORAL_ADDRESS."
        ) from error
    return client


async def open_client(**config: Any) -> Client:
    """Make a client that reads and writes as workers do.

    Args:
        **config: As for `Client.connect`.
    """
    return client_of_workers(await Client.connect(**config))


def client_of_workers(client: Client) -> Client:
    """Return a client on the same connection that reads and writes as workers do; its plugins stay behind.

    Raises:
        SettingsInvalid: The client has a converter that can't go together with it.
    """
    pages = PagesCodec()
    config = client.config(active_config=True)
    made = Client(
        config["service_client"],
        namespace=config["namespace"],
        data_converter=converter_for(config["data_converter"], pages),
        interceptors=config["interceptors"],
        default_workflow_query_reject_condition=config["default_workflow_query_reject_condition"],
        header_codec_behavior=config["header_codec_behavior"],
    )
    pages.client = made
    return made


def converter_for(given: DataConverter, pages: PagesCodec) -> DataConverter:
    """Return what converts as choreographies need it, with the codec and the storage of what a client has.

    What is sent holds no secrets of the process, and is encrypted where the environment has a `PAYLOAD_KEY`; what is
    large then goes where the client's own storage puts it, or else to the environment's `PAYLOAD_STORE`.

    Raises:
        SettingsInvalid: It has a converter of its own, or the key or the store can't be used.
    """
    for one, known in (
        (given.payload_converter_class, (DefaultPayloadConverter, PydanticPayloadConverter)),
        (given.failure_converter_class, (DefaultFailureConverter, FailureSealed)),
    ):
        if one not in (*known, data_converter.payload_converter_class, data_converter.failure_converter_class):
            raise SettingsInvalid(
                f"The client converts by {one.__module__}.{one.__qualname__}; choreographies need a converter of their "
                "own. Give the plugin a client without, and put what you need into a payload codec, which is kept."
            )
    others = [codec for codec in codecs_of(given) if not isinstance(codec, (HidingCodec, PagesCodec, EncryptionCodec))]
    try:
        encryption = EncryptionCodec.from_environment()
        storage = given.external_storage or storage_from_environment()
    except SettingInvalid as error:
        raise SettingsInvalid(str(error)) from None
    return dataclasses.replace(
        data_converter,
        payload_codec=Codecs(HidingCodec(), pages, *others, encryption),
        failure_converter_class=FailureSealed if encryption.encrypts else data_converter.failure_converter_class,
        external_storage=storage,
    )


async def store_in_words(client: Client) -> str:
    """Say in one line where payloads go that are large; nothing where there is no store of the environment's.

    Raises:
        SettingsInvalid: The store can't be used.
    """
    store = store_of(client.data_converter.external_storage)
    if store is None:
        return ""
    try:
        days_from_environment()
        await store.check()
    except SettingInvalid as error:
        raise SettingsInvalid(str(error)) from None
    return f"Payload store: {store.place}, for what has {STORED_FROM:,} to {STORED_LIMIT:,} bytes."
