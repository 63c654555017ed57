//! The exporters against servers that behave, and servers that do not.
