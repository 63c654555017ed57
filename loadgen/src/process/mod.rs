//! Other processes: what `/proc` says of them, and where they run.

mod device;
mod family;
mod log;
mod ports;
mod proc;
mod sys;

pub(crate) use device::device_written_bytes;
pub(crate) use family::{Families, Usage, marked};
pub(crate) use log::log_end;
pub(crate) use ports::{PORTS, free_port_array, free_ports};
pub(crate) use proc::{Process, machine_cpu, serving, stolen_cpu};
pub(crate) use sys::{
    allowed_cores, forget_cached, freeze_group, hang_up, interrupt, kill, kill_group,
    pin_and_bind_life, pin_to, pin_to_some_and_bind_life, terminate, thaw_group, thread_cpu_time,
};
