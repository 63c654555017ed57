//! Gets `libchdb.so`: from npm where npm is installed, else from chDB's releases with curl.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::library::{FILE_NAME, VERSION, install_dir};

/// The npm package that carries the library for Linux on x86-64.
const NPM_PACKAGE: &str = "@chdb/lib-linux-x64-gnu";
/// Smaller than any release; a page of HTML is not.
const LIBRARY_BYTES_MIN: u64 = 100 << 20;

/// Installs the library for the current user and returns its path. Prints what it does; takes minutes.
///
/// # Errors
/// When the download fails, is not what the registry announces, or cannot be written.
pub(super) fn fetch() -> Result<PathBuf> {
    let folder = install_dir()?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let target = folder.join(FILE_NAME);
    if target.is_file() {
        return Ok(target);
    }
    // Beside the target, so that the last step is a rename.
    let work = folder.join(format!(".fetch-{}", std::process::id()));
    fs::create_dir_all(&work)?;
    let fetched = download(&work).and_then(|library| install(&library, &target));
    fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))?;
    fetched?;
    Ok(target)
}

fn install(library: &Path, target: &Path) -> Result<()> {
    let size = fs::metadata(library)
        .with_context(|| format!("the download has no {FILE_NAME}"))?
        .len();
    ensure!(
        size > LIBRARY_BYTES_MIN,
        "the {FILE_NAME} that came has only {size} bytes"
    );
    fs::rename(library, target).with_context(|| format!("cannot write {}", target.display()))
}

fn download(work: &Path) -> Result<PathBuf> {
    let x86_64_linux = cfg!(all(target_os = "linux", target_arch = "x86_64"));
    if x86_64_linux && is_installed("npm") {
        return from_npm(work);
    }
    if is_installed("curl") {
        return from_release(work);
    }
    bail!("getting the engine takes npm or curl, and neither is installed")
}

/// `npm pack` checks the archive against the registry's sum while it downloads; the sum is compared again here,
/// over the file that is unpacked.
fn from_npm(work: &Path) -> Result<PathBuf> {
    let package = format!("{NPM_PACKAGE}@{VERSION}");
    tracing::info!(%package, "getting the ClickHouse engine from npm");
    let announced = json(&run(work, "npm", &["view", &package, "dist", "--json"])?)?;
    let packed = json(&run(
        work,
        "npm",
        &["pack", &package, "--json", "--pack-destination", "."],
    )?)?;
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let entry = packed
        .get(0)
        .or_else(|| packed.get(NPM_PACKAGE))
        .unwrap_or(&packed);
    let integrity =
        text(&announced["integrity"]).context("npm announces no integrity for the package")?;
    let name = text(&entry["filename"]).context("npm does not say what it packed")?;
    // npm writes scoped names with either separator.
    let archive = [name.clone(), name.trim_start_matches('@').replace('/', "-")]
        .into_iter()
        .map(|name| work.join(name))
        .find(|path| path.is_file())
        .context("npm packed nothing")?;
    if let Some(size) = entry["size"].as_u64() {
        let found = fs::metadata(&archive)?.len();
        ensure!(
            found == size,
            "the archive has {found} bytes, npm packed {size}"
        );
    }
    verify(&archive, &integrity)?;
    unpack(work, &archive, "package/libchdb.so")
}

fn from_release(work: &Path) -> Result<PathBuf> {
    let platform = match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => "linux-x86_64",
        ("linux", "aarch64") => "linux-aarch64",
        ("macos", "x86_64") => "macos-x86_64",
        ("macos", "aarch64") => "macos-arm64",
        (os, architecture) => bail!("chDB has no release for {os} on {architecture}"),
    };
    let tag = VERSION.split('-').next().unwrap_or(VERSION);
    let url = format!(
        "https://github.com/chdb-io/chdb-core/releases/download/v{tag}/{platform}-libchdb.tar.gz"
    );
    tracing::info!(%url, "getting the ClickHouse engine from chDB's releases");
    let archive = work.join("libchdb.tar.gz");
    run(
        work,
        "curl",
        &[
            "--fail",
            "--location",
            "--silent",
            "--show-error",
            "--output",
            "libchdb.tar.gz",
            &url,
        ],
    )?;
    unpack(work, &archive, FILE_NAME)
}

/// Compares a file with a sum in npm's form, `sha512-BASE64`.
fn verify(archive: &Path, integrity: &str) -> Result<()> {
    let Some(expected) = integrity.strip_prefix("sha512-") else {
        bail!("npm announces a sum of an unknown kind: {integrity}");
    };
    let mut file = fs::File::open(archive)?;
    let mut context = ring::digest::Context::new(&ring::digest::SHA512);
    std::io::copy(&mut file, &mut Hasher(&mut context))?;
    let found = base64(context.finish().as_ref());
    ensure!(
        found == expected,
        "the archive's sha512 is {found}, npm announces {expected}"
    );
    Ok(())
}

struct Hasher<'context>(&'context mut ring::digest::Context);

impl std::io::Write for Hasher<'_> {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.0.update(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for position in 0..4 {
            let value = (bits >> (18 - 6 * position) & 0x3f) as usize;
            text.push(if position <= group.len() {
                char::from(ALPHABET[value])
            } else {
                '='
            });
        }
    }
    text
}

fn unpack(work: &Path, archive: &Path, member: &str) -> Result<PathBuf> {
    run(
        work,
        "tar",
        &[OsStr::new("-xzf"), archive.as_os_str(), OsStr::new(member)],
    )?;
    Ok(work.join(member))
}

fn is_installed(program: &str) -> bool {
    let probe = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .output();
    probe.is_ok_and(|output| output.status.success())
}

/// Runs a program in `folder` and returns what it prints; its complaints go to our stderr.
fn run<A: AsRef<OsStr>>(folder: &Path, program: &str, arguments: &[A]) -> Result<Vec<u8>> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    ensure!(
        output.status.success(),
        "{program} failed: {}",
        output.status
    );
    Ok(output.stdout)
}

fn json(text: &[u8]) -> Result<serde_json::Value> {
    serde_json::from_slice(text).context("npm did not answer in JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_padded() {
        for (bytes, expected) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), expected, "{bytes}");
        }
    }

    #[test]
    fn archives_are_checked_against_their_sum() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, b"abc").unwrap();
        let sum = "3a81oZNherrMQXNJriBBMRLm+k6JqX6iCp7u5ktV05ohkpkqJ0/BqDa6PCOj/uu9RU1EI2Q86A4qmslPpUyknw==";
        verify(&path, &format!("sha512-{sum}")).unwrap();
        fs::write(&path, b"abd").unwrap();
        assert!(verify(&path, &format!("sha512-{sum}")).is_err());
        assert!(verify(&path, "sha1-x").is_err());
    }
}
