"""The spool: frames on a local disk that wait for an object store to answer.

:class:`~fluxforge.ingestion.spool.spool.Spool` is the folder, and
:class:`~fluxforge.ingestion.spool.shipping.Shipper` brings what lies in it to the store.
:class:`~fluxforge.ingestion.spool.relay.Relay` writes to the store while it answers, and into the
spool while it does not.
"""
