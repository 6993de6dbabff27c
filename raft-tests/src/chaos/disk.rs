//! A disk for one member, made of a file: ext4 on a loop device, which can lose its power and run full.

use super::program;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Of the file system; the file is sparse.
const BYTES: u64 = 1 << 30;
/// What a full disk still has: less than the store needs to go on.
const LEFT_BYTES: u64 = 1 << 20;
/// For a file system to be let go by a process that has just been killed.
const UNMOUNT: Duration = Duration::from_secs(10);

/// `EXT4_IOC_SHUTDOWN` with the flag that also drops what is in the journal and not on the disk. Python is there for
/// it because a call of `ioctl` is not safe Rust.
const POWER_OFF: &str = "import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, struct.pack('I', 2))";

/// See the module head.
pub struct Disk {
    image: PathBuf,
    point: PathBuf,
}

impl Disk {
    /// Makes and mounts it. `folder` is the run's, and takes away what is mounted in it.
    pub fn make(folder: &Path, name: &str) -> Result<Disk> {
        let disk = Disk {
            image: folder.join(format!("disk-{name}.ext4")),
            point: folder.join(format!("disk-{name}")),
        };
        File::create(&disk.image)?.set_len(BYTES)?;
        std::fs::create_dir(&disk.point)?;
        let image = disk.image.to_string_lossy();
        program::run("mkfs.ext4", &["-q", "-F", "-m", "0", &image])?;
        disk.mount()?;
        Ok(disk)
    }

    pub fn point(&self) -> &Path {
        &self.point
    }

    fn mount(&self) -> Result<()> {
        let (image, point) = (self.image.to_string_lossy(), self.point.to_string_lossy());
        program::run("mount", &["-o", "loop", &image, &point]).map(|_| ())
    }

    /// From now on nothing gets to the disk any more, and what was not synced is lost.
    pub fn power_off(&self) -> Result<()> {
        let point = self.point.to_string_lossy();
        program::run("python3", &["-c", POWER_OFF, &point]).map(|_| ())
    }

    /// The disk as it is found after the power loss. Nobody may use it meanwhile.
    pub fn power_on(&self) -> Result<()> {
        let point = self.point.to_string_lossy();
        let deadline = Instant::now() + UNMOUNT;
        while let Err(error) = program::run("umount", &[&point]) {
            if Instant::now() > deadline {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.mount()
    }

    fn ballast(&self) -> PathBuf {
        self.point.join("ballast")
    }

    /// Leaves next to nothing of it. Answers how many bytes were taken.
    pub fn fill(&self) -> Result<u64> {
        let free = rustix::fs::statvfs(&self.point).context("cannot look at the disk")?;
        let free = free.f_bavail * free.f_frsize;
        if free <= LEFT_BYTES {
            bail!("the disk is full already");
        }
        let taken = free - LEFT_BYTES;
        let path = self.ballast();
        let path = path.to_string_lossy();
        // The member takes and frees space meanwhile, so it may be less than there was.
        for share in [100, 97, 90] {
            let bytes = (taken / 100 * share).to_string();
            if program::run("fallocate", &["--length", &bytes, &path]).is_ok() {
                return Ok(taken / 100 * share);
            }
        }
        bail!("the disk cannot be filled")
    }

    pub fn clear(&self) -> Result<()> {
        let ballast = self.ballast();
        match ballast.exists() {
            true => Ok(std::fs::remove_file(ballast)?),
            false => Ok(()),
        }
    }
}
