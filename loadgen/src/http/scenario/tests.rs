//! Files of scenarios: what they mean, and what is wrong with them.
