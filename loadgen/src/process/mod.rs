//! Other processes: what `/proc` says of them, and where they run.

mod device;
mod proc;
mod sys;

pub(crate) use device::device_written_bytes;
pub(crate) use proc::{Process, machine_cpu, serving, stolen_cpu};
pub(crate) use sys::{
    allowed_cores, forget_cached, hang_up, kill_group, pin_and_bind_life, pin_to, terminate,
    thread_cpu_time,
};
