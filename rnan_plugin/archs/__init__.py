"""Networks: RNAN, its non-local block, and the bridge to the released weights."""
