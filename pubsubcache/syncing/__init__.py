"""Keeping nodes equal to their services.

`full_sync` copies or repairs a node, `order` compares ids and their order, `revalidation` decides which of the two a
node needs, and `notifications` applies what services send in between.
"""
