//! Instances against fakes of the ports.
