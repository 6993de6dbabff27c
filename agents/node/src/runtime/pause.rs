//! The program that holds a pod's namespaces open, and the image that carries it.
//!
//! A pod's sandbox is a container whose only process waits. Pulling one from a registry would make the first pod depend
//! on the network, so the binary carries the program itself: some forty instructions, assembled by hand, in a minimal
//! static ELF file. It blocks SIGINT, SIGTERM and SIGCHLD and waits for them in a loop: the first two end it with
//! status 0 (blocked signals are not dropped for process 1, unhandled ones would be), the third makes it reap, since it
//! is process 1 of the pod when containers share their process namespace.

/// Name of the image; the tag changes whenever the program does.
pub(crate) const IMAGE: &str = "kontiki/pause:1";

/// Path of the program in the image.
pub(crate) const PROGRAM: &str = "/pause";

/// Machine code, entered at its first byte, position independent, data at the end.
struct Code {
    /// `e_machine` of the ELF header.
    machine: u16,
    text: &'static [u8],
}

#[rustfmt::skip]
const X86_64: Code = Code { machine: 62, text: &[
    0x31, 0xff,                               // xor  edi, edi          SIG_BLOCK
    0x48, 0x8d, 0x35, 0x57, 0x00, 0x00, 0x00, // lea  rsi, [set]
    0x31, 0xd2,                               // xor  edx, edx
    0x41, 0xba, 0x08, 0x00, 0x00, 0x00,       // mov  r10d, 8
    0xb8, 0x0e, 0x00, 0x00, 0x00,             // mov  eax, 14           rt_sigprocmask
    0x0f, 0x05,                               // syscall
    // wait:
    0x48, 0x8d, 0x3d, 0x41, 0x00, 0x00, 0x00, // lea  rdi, [set]
    0x31, 0xf6,                               // xor  esi, esi
    0x31, 0xd2,                               // xor  edx, edx          no timeout
    0x41, 0xba, 0x08, 0x00, 0x00, 0x00,       // mov  r10d, 8
    0xb8, 0x80, 0x00, 0x00, 0x00,             // mov  eax, 128          rt_sigtimedwait
    0x0f, 0x05,                               // syscall
    0x83, 0xf8, 0x11,                         // cmp  eax, SIGCHLD
    0x74, 0x0d,                               // je   reap
    0x85, 0xc0,                               // test eax, eax
    0x78, 0xdf,                               // js   wait              interrupted
    0x31, 0xff,                               // xor  edi, edi
    0xb8, 0xe7, 0x00, 0x00, 0x00,             // mov  eax, 231          exit_group
    0x0f, 0x05,                               // syscall
    // reap:
    0xbf, 0xff, 0xff, 0xff, 0xff,             // mov  edi, -1           any child
    0x31, 0xf6,                               // xor  esi, esi
    0xba, 0x01, 0x00, 0x00, 0x00,             // mov  edx, WNOHANG
    0x45, 0x31, 0xd2,                         // xor  r10d, r10d
    0xb8, 0x3d, 0x00, 0x00, 0x00,             // mov  eax, 61           wait4
    0x0f, 0x05,                               // syscall
    0x85, 0xc0,                               // test eax, eax
    0x7f, 0xe6,                               // jg   reap
    0xeb, 0xba,                               // jmp  wait
    0x66, 0x90,                               // (alignment)
    // set: bits SIGINT, SIGTERM, SIGCHLD
    0x02, 0x40, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00,
] };

#[rustfmt::skip]
const AARCH64: Code = Code { machine: 183, text: &[
    0x00, 0x00, 0x80, 0xd2, // mov  x0, 0            SIG_BLOCK
    0x61, 0x03, 0x00, 0x10, // adr  x1, set
    0x02, 0x00, 0x80, 0xd2, // mov  x2, 0
    0x03, 0x01, 0x80, 0xd2, // mov  x3, 8
    0xe8, 0x10, 0x80, 0xd2, // mov  x8, 135          rt_sigprocmask
    0x01, 0x00, 0x00, 0xd4, // svc  0
    // wait:
    0xc0, 0x02, 0x00, 0x10, // adr  x0, set
    0x01, 0x00, 0x80, 0xd2, // mov  x1, 0
    0x02, 0x00, 0x80, 0xd2, // mov  x2, 0            no timeout
    0x03, 0x01, 0x80, 0xd2, // mov  x3, 8
    0x28, 0x11, 0x80, 0xd2, // mov  x8, 137          rt_sigtimedwait
    0x01, 0x00, 0x00, 0xd4, // svc  0
    0x1f, 0x44, 0x00, 0x71, // cmp  w0, SIGCHLD
    0xa0, 0x00, 0x00, 0x54, // b.eq reap
    0x00, 0xff, 0xff, 0x37, // tbnz w0, 31, wait     interrupted
    0x00, 0x00, 0x80, 0xd2, // mov  x0, 0
    0xc8, 0x0b, 0x80, 0xd2, // mov  x8, 94           exit_group
    0x01, 0x00, 0x00, 0xd4, // svc  0
    // reap:
    0x00, 0x00, 0x80, 0x92, // mov  x0, -1           any child
    0x01, 0x00, 0x80, 0xd2, // mov  x1, 0
    0x22, 0x00, 0x80, 0xd2, // mov  x2, WNOHANG
    0x03, 0x00, 0x80, 0xd2, // mov  x3, 0
    0x88, 0x20, 0x80, 0xd2, // mov  x8, 260          wait4
    0x01, 0x00, 0x00, 0xd4, // svc  0
    0x1f, 0x00, 0x00, 0x71, // cmp  w0, 0
    0x2c, 0xff, 0xff, 0x54, // b.gt reap
    0xec, 0xff, 0xff, 0x17, // b    wait
    0x1f, 0x20, 0x03, 0xd5, // nop                   (alignment)
    // set: bits SIGINT, SIGTERM, SIGCHLD
    0x02, 0x40, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00,
] };

/// Address at which the file is mapped.
const BASE: u64 = 0x40_0000;
const HEADER_BYTES: u64 = 64 + 56;

/// A static executable for the architecture as Rust names it; `None` where nobody has assembled one.
pub(crate) fn executable(architecture: &str) -> Option<Vec<u8>> {
    let code = match architecture {
        "x86_64" => &X86_64,
        "aarch64" => &AARCH64,
        _ => return None,
    };
    let size = HEADER_BYTES + code.text.len() as u64;
    let mut elf = Vec::with_capacity(size as usize);
    elf.extend_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let half = |elf: &mut Vec<u8>, value: u16| elf.extend_from_slice(&value.to_le_bytes());
    let word = |elf: &mut Vec<u8>, value: u32| elf.extend_from_slice(&value.to_le_bytes());
    let long = |elf: &mut Vec<u8>, value: u64| elf.extend_from_slice(&value.to_le_bytes());
    half(&mut elf, 2); // executable
    half(&mut elf, code.machine);
    word(&mut elf, 1); // ELF version
    long(&mut elf, BASE + HEADER_BYTES); // entry
    long(&mut elf, 64); // program headers follow the file header
    long(&mut elf, 0); // no section headers
    word(&mut elf, 0); // flags
    for value in [64, 56, 1, 0, 0, 0] {
        half(&mut elf, value); // header sizes and counts
    }
    word(&mut elf, 1); // PT_LOAD
    word(&mut elf, 5); // readable, executable
    long(&mut elf, 0); // from the start of the file
    long(&mut elf, BASE);
    long(&mut elf, BASE);
    long(&mut elf, size);
    long(&mut elf, size);
    long(&mut elf, 0x1_0000); // alignment: the largest page size of both architectures
    elf.extend_from_slice(code.text);
    Some(elf)
}

/// The root file system of the image: a tar archive with the program and nothing else.
pub(crate) fn archive(architecture: &str) -> Option<Vec<u8>> {
    let program = executable(architecture)?;
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(program.len() as u64);
    header.set_mode(0o755);
    header.set_entry_type(tar::EntryType::Regular);
    let path = PROGRAM.trim_start_matches('/');
    archive
        .append_data(&mut header, path, program.as_slice())
        .expect("writing to memory cannot fail");
    Some(archive.into_inner().expect("writing to memory cannot fail"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn the_program_waits_and_ends_cleanly_on_sigterm() {
        let Some(program) = executable(std::env::consts::ARCH) else {
            eprintln!("skipped: no pause program for {}", std::env::consts::ARCH);
            return;
        };
        assert!(program.len() < 1024);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pause");
        std::fs::write(&path, program).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut child = Command::new(&path).spawn().unwrap();
        // Once it sleeps it waits for signals; before that SIGTERM would simply kill it.
        let stat = format!("/proc/{}/status", child.id());
        let asleep = || {
            std::fs::read_to_string(&stat)
                .unwrap()
                .contains("State:\tS")
        };
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !asleep() {
            assert!(
                std::time::Instant::now() < deadline,
                "the program does not come to rest"
            );
            std::thread::yield_now();
        }
        // A SIGCHLD with no child to reap must not end it.
        let kill = |signal: &str| {
            let done = Command::new("kill")
                .args([signal, &child.id().to_string()])
                .status();
            assert!(done.unwrap().success());
        };
        kill("-CHLD");
        kill("-TERM");
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }

    #[test]
    fn the_archive_holds_one_executable() {
        let bytes = archive("aarch64").unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap())
            .collect();
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].header().mode().unwrap(), 0o755);
        assert!(archive_missing());
    }

    fn archive_missing() -> bool {
        archive("vax").is_none()
    }
}
