//! The system calls that measuring needs and the standard library does not offer.
#![allow(
    unsafe_code,
    reason = "CPU affinity, thread CPU time, signals and hints on files are only offered by libc"
)]

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

/// CPU time (user and system) that the calling thread has used.
pub(crate) fn thread_cpu_time() -> Duration {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is valid for writes of one `rusage`, and the zeroed bytes are a valid one should
    // the call fail, which it only does for an unknown `who`.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr());
        usage.assume_init()
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}

fn time(value: libc::timeval) -> Duration {
    let seconds = u64::try_from(value.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(u64::try_from(value.tv_usec).unwrap_or(0))
}

/// How many of `/proc/PID/stat`'s clock ticks make a second.
pub(crate) fn ticks_per_second() -> u64 {
    // SAFETY: sysconf reads a constant and touches no memory of ours.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks).unwrap_or(100).max(1)
}

/// The cores the calling thread may run on.
pub(crate) fn allowed_cores() -> io::Result<Vec<usize>> {
    let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: the pointer is valid for writes of the size given, and all-zero is a valid empty set.
    let (result, set) = unsafe {
        let result = libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), set.as_mut_ptr());
        (result, set.assume_init())
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: every index is below CPU_SETSIZE, the number of bits in the set.
    let allowed = |core: &usize| unsafe { libc::CPU_ISSET(*core, &set) };
    Ok((0..libc::CPU_SETSIZE.cast_unsigned() as usize)
        .filter(allowed)
        .collect())
}

/// Lets the calling thread, and the threads and processes it starts from now on, run on this core only.
pub(crate) fn pin_to(core: usize) -> io::Result<()> {
    pin_to_all(&[core])
}

/// The same for several cores.
fn pin_to_all(cores: &[usize]) -> io::Result<()> {
    if cores
        .iter()
        .any(|core| *core >= libc::CPU_SETSIZE.cast_unsigned() as usize)
    {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no such core"));
    }
    let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: all-zero is a valid empty set; the indexes were checked to be within it; the kernel reads the
    // set only during the call.
    let result = unsafe {
        for core in cores {
            libc::CPU_SET(*core, set.assume_init_mut());
        }
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), set.as_ptr())
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Makes the command's process run on `core` only, and die when the thread that started it does.
pub(crate) fn pin_and_bind_life(command: &mut Command, core: Option<usize>) {
    pin_to_some_and_bind_life(command, core.into_iter().collect());
}

/// The same for several cores; all that there are, if none is given.
pub(crate) fn pin_to_some_and_bind_life(command: &mut Command, cores: Vec<usize>) {
    let prepare = move || {
        if !cores.is_empty() {
            pin_to_all(&cores)?;
        }
        // SAFETY: prctl with this option takes an integer and touches no memory.
        if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes system calls only: no allocation on its good path,
    // no locks.
    unsafe { command.pre_exec(prepare) };
}

/// Asks the kernel to forget what it holds of a file in memory, as after a restart of the machine. What has not been
/// written to the disk yet stays.
pub(crate) fn forget_cached(file: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open for the call, which takes integers and touches no memory.
    let error = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    match error {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Asks a process to stop (SIGTERM).
pub(crate) fn terminate(pid: u32) -> io::Result<()> {
    signal(pid, libc::SIGTERM)
}

/// Asks a process to read its configuration again (SIGHUP).
pub(crate) fn hang_up(pid: u32) -> io::Result<()> {
    signal(pid, libc::SIGHUP)
}

/// Asks a process to stop as Ctrl-C does (SIGINT).
pub(crate) fn interrupt(pid: u32) -> io::Result<()> {
    signal(pid, libc::SIGINT)
}

/// Ends a process without asking it (SIGKILL).
pub(crate) fn kill(pid: u32) -> io::Result<()> {
    signal(pid, libc::SIGKILL)
}

/// Stops every process of the group that this process leads where it is (SIGSTOP).
pub(crate) fn freeze_group(leader: u32) -> io::Result<()> {
    signal_group(leader, libc::SIGSTOP)
}

/// Lets them go on (SIGCONT).
pub(crate) fn thaw_group(leader: u32) -> io::Result<()> {
    signal_group(leader, libc::SIGCONT)
}

fn signal(pid: u32, signal: libc::c_int) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "no such process"))?;
    // SAFETY: kill takes two integers and touches no memory.
    if unsafe { libc::kill(pid, signal) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Kills every process of the group that this process leads (SIGKILL).
pub(crate) fn kill_group(leader: u32) -> io::Result<()> {
    signal_group(leader, libc::SIGKILL)
}

fn signal_group(leader: u32, signal: libc::c_int) -> io::Result<()> {
    let leader = libc::pid_t::try_from(leader)
        .ok()
        .filter(|leader| *leader > 1)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no such process group"))?;
    // SAFETY: kill takes two integers and touches no memory.
    if unsafe { libc::kill(-leader, signal) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_dies_with_its_children() {
        use std::io::Read as _;

        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "sleep 600 & sleep 600"])
            .process_group(0)
            .stdout(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        kill_group(child.id()).unwrap();
        // The pipe ends when the last process that holds it does.
        let mut rest = String::new();
        child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut rest)
            .unwrap();
        assert!(!child.wait().unwrap().success());
        assert!(kill_group(0).is_err());
        assert!(kill_group(1).is_err());
    }

    #[test]
    fn work_takes_cpu_time() {
        let before = thread_cpu_time();
        let mut value = 1_u64;
        while thread_cpu_time() < before + Duration::from_millis(5) {
            value = std::hint::black_box(value.wrapping_mul(3));
        }
        assert!(thread_cpu_time() > before, "{value}");
    }

    #[test]
    fn a_pinned_thread_may_run_on_one_core() {
        std::thread::spawn(|| {
            let core = *allowed_cores().unwrap().last().unwrap();
            pin_to(core).unwrap();
            assert_eq!(allowed_cores().unwrap(), [core]);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_core_that_cannot_exist_is_an_error() {
        assert!(pin_to(1 << 20).is_err());
    }
}
