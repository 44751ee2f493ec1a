"""Several payload codecs, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from temporalio.api.common.v1 import Payload
from temporalio.converter import DataConverter, PayloadCodec


class Codecs(PayloadCodec):
    """Several codecs, the first one nearest to the data."""

    def __init__(self, *codecs: PayloadCodec) -> None:
        self.codecs = codecs

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Encode with each."""
        for codec in self.codecs:
            payloads = await codec.encode(payloads)
        return list(payloads)

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Decode with each, the last one first."""
        for codec in reversed(self.codecs):
            payloads = await codec.decode(payloads)
        return list(payloads)


def codecs_of(converter: DataConverter) -> Sequence[PayloadCodec]:
    """Return the codecs of a converter, the one nearest to the data first."""
    codec = converter.payload_codec
    return codec.codecs if isinstance(codec, Codecs) else [codec] if codec else []
