//! System call filters: the spec's rules compiled to classic BPF (seccomp(2), x86-64).
//!
//! Rules for constant answers become a binary search over the call's number, so that a long allow list
//! costs a few instructions and the kernel's own bitmap can answer for it.

use std::io;

use caisson_bundle::oci;
use syscalls::x86_64::Sysno;

use crate::sys;

mod default;
pub use default::default_profile;

/// One classic BPF instruction (struct sock_filter).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    code: u16,
    jt: u8,
    jf: u8,
    k: u32,
}

const LOAD: u16 = 0x20;
const JUMP_EQ: u16 = 0x15;
const JUMP_GE: u16 = 0x35;
const JUMP_GT: u16 = 0x25;
const JUMP: u16 = 0x05;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;
/// AUDIT_ARCH_X86_64.
const ARCH: u32 = 0xC000_003E;
/// Bit of x32 calls.
const X32: u32 = 0x4000_0000;

fn op(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

/// A compiled rule: the call, its argument conditions, and the answer.
struct Rule<'a> {
    number: u32,
    args: &'a [oci::LinuxSeccompArg],
    answer: u32,
}

fn answer(action: oci::LinuxSeccompAction, errno: Option<u32>) -> u32 {
    use oci::LinuxSeccompAction as A;
    match action {
        A::ScmpActAllow => 0x7fff_0000,
        A::ScmpActLog => 0x7ffc_0000,
        A::ScmpActTrace => 0x7ff0_0000 | errno.unwrap_or(1),
        A::ScmpActErrno => 0x0005_0000 | errno.unwrap_or(libc::EPERM as u32),
        A::ScmpActTrap => 0x0003_0000,
        A::ScmpActKillProcess => 0x8000_0000,
        _ => 0,
    }
}

/// Compiles a profile. Names that this architecture does not know are left out, as everywhere.
pub fn compile(profile: &oci::LinuxSeccomp) -> Vec<Instruction> {
    let fallback = answer(profile.default_action(), profile.default_errno_ret());
    let mut rules = Vec::new();
    for entry in profile.syscalls().iter().flatten() {
        let answer = answer(entry.action(), entry.errno_ret());
        for name in entry.names() {
            if let Ok(number) = name.parse::<Sysno>() {
                let args = entry.args().as_deref().unwrap_or(&[]);
                rules.push(Rule { number: number.id() as u32, args, answer });
            }
        }
    }
    rules.sort_by_key(|rule| rule.number);
    let mut groups: Vec<Vec<Rule>> = Vec::new();
    for rule in rules {
        match groups.last_mut().filter(|group| group[0].number == rule.number) {
            Some(group) => group.push(rule),
            None => groups.push(vec![rule]),
        }
    }
    let mut program = vec![
        op(LOAD, 4),
        Instruction { code: JUMP_EQ, jt: 1, jf: 0, k: ARCH },
        op(RETURN, fallback),
        op(LOAD, 0),
        Instruction { code: JUMP_GE, jt: 0, jf: 1, k: X32 },
        op(RETURN, fallback),
    ];
    search(&mut program, &groups, fallback);
    program
}

/// Emits a search of `groups`, which are sorted by number; the number is in the accumulator.
fn search(program: &mut Vec<Instruction>, groups: &[Vec<Rule>], fallback: u32) {
    match groups {
        [] => program.push(op(RETURN, fallback)),
        [group] => {
            program.push(Instruction { code: JUMP_EQ, jt: 1, jf: 0, k: group[0].number });
            program.push(op(RETURN, fallback));
            conditions(program, group, fallback);
        }
        _ => {
            let (low, high) = groups.split_at(groups.len() / 2);
            program.push(Instruction { code: JUMP_GE, jt: 0, jf: 1, k: high[0][0].number });
            // The high half may be further away than a conditional jump reaches.
            let hop = program.len();
            program.push(op(JUMP, 0));
            search(program, low, fallback);
            program[hop].k = (program.len() - hop - 1) as u32;
            search(program, high, fallback);
        }
    }
}

/// Emits the rules of one call: the first whose conditions all hold answers.
fn conditions(program: &mut Vec<Instruction>, group: &[Rule], fallback: u32) {
    for rule in group {
        let mut exits = Vec::new();
        for arg in rule.args {
            compare(program, arg, &mut exits);
        }
        program.push(op(RETURN, rule.answer));
        let end = program.len();
        for at in exits {
            program[at].k = (end - at - 1) as u32;
        }
        if rule.args.is_empty() {
            return;
        }
    }
    program.push(op(RETURN, fallback));
}

/// Emits one 64-bit comparison; the jumps taken when it does not hold are noted in `exits`.
fn compare(program: &mut Vec<Instruction>, arg: &oci::LinuxSeccompArg, exits: &mut Vec<usize>) {
    use oci::LinuxSeccompOperator as O;
    let offset = 16 + 8 * arg.index() as u32;
    let value = arg.value();
    let (low, high) = (value as u32, (value >> 32) as u32);
    let mut fail = |program: &mut Vec<Instruction>| {
        exits.push(program.len());
        program.push(op(JUMP, 0));
    };
    let branch = |code, jt, jf, k| Instruction { code, jt, jf, k };
    match arg.op() {
        O::ScmpCmpEq | O::ScmpCmpMaskedEq => {
            let masked = arg.op() == O::ScmpCmpMaskedEq;
            // For a masked comparison the spec's `value` is the mask and `valueTwo` the datum.
            let datum = if masked { arg.value_two().unwrap_or(0) } else { value };
            for (at, mask, want) in [(4, high, (datum >> 32) as u32), (0, low, datum as u32)] {
                program.push(op(LOAD, offset + at));
                if masked {
                    program.push(op(AND, mask));
                }
                program.push(branch(JUMP_EQ, 1, 0, want));
                fail(program);
            }
        }
        O::ScmpCmpNe => {
            program.push(op(LOAD, offset + 4));
            program.push(branch(JUMP_EQ, 0, 3, high));
            program.push(op(LOAD, offset));
            program.push(branch(JUMP_EQ, 0, 1, low));
            fail(program);
        }
        other => {
            // high half decides unless equal; then the low half with or without equality.
            let (code, want) = match other {
                O::ScmpCmpGe | O::ScmpCmpLt => (JUMP_GE, matches!(other, O::ScmpCmpGe)),
                _ => (JUMP_GT, matches!(other, O::ScmpCmpGt)),
            };
            program.push(op(LOAD, offset + 4));
            let (above, below) = if want { (4, 3) } else { (3, 4) };
            program.push(branch(JUMP_GT, above, 0, high));
            program.push(branch(JUMP_EQ, 0, below - 1, high));
            program.push(op(LOAD, offset));
            let (jt, jf) = if want { (1, 0) } else { (0, 1) };
            program.push(branch(code, jt, jf, low));
            fail(program);
        }
    }
}

/// Installs a filter on this thread.
pub fn install(program: &[Instruction]) -> io::Result<()> {
    #[repr(C)]
    struct Program {
        length: u16,
        filter: *const Instruction,
    }
    let length = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = Program { length, filter: program.as_ptr() };
    // SAFETY: the structure is struct sock_fprog and its pointer is live for the call.
    sys::check(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program)
    })
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program on (number, args), as the kernel would.
    fn run(program: &[Instruction], number: u32, args: [u64; 6]) -> u32 {
        let mut data = vec![];
        data.extend(number.to_le_bytes());
        data.extend(ARCH.to_le_bytes());
        data.extend([0; 8]);
        args.iter().for_each(|arg| data.extend(arg.to_le_bytes()));
        let (mut at, mut a) = (0, 0u32);
        loop {
            let i = program[at];
            at += 1;
            let mut jump = |yes| at += usize::from(if yes { i.jt } else { i.jf });
            match i.code {
                LOAD => a = u32::from_le_bytes(data[i.k as usize..][..4].try_into().unwrap()),
                AND => a &= i.k,
                JUMP => at += i.k as usize,
                JUMP_EQ => jump(a == i.k),
                JUMP_GE => jump(a >= i.k),
                JUMP_GT => jump(a > i.k),
                RETURN => return i.k,
                code => panic!("unknown instruction {code}"),
            }
        }
    }

    const ALLOW: u32 = 0x7fff_0000;
    const DENY: u32 = 0x0005_0001;

    #[test]
    fn the_default_profile_answers_as_dockers() {
        let program = compile(&default_profile(0));
        let call = |sysno: Sysno, args| run(&program, sysno.id() as u32, args);
        assert_eq!(call(Sysno::read, [0; 6]), ALLOW);
        assert_eq!(call(Sysno::execve, [0; 6]), ALLOW);
        assert_eq!(call(Sysno::mount, [0; 6]), DENY);
        assert_eq!(call(Sysno::keyctl, [0; 6]), DENY);
        assert_eq!(call(Sysno::clone3, [0; 6]), 0x0005_0000 | libc::ENOSYS as u32);
        let new_user = [libc::CLONE_NEWUSER as u64, 0, 0, 0, 0, 0];
        assert_eq!(call(Sysno::clone, new_user), DENY);
        assert_eq!(call(Sysno::clone, [libc::SIGCHLD as u64, 0, 0, 0, 0, 0]), ALLOW);
        assert_eq!(call(Sysno::personality, [8, 0, 0, 0, 0, 0]), ALLOW);
        assert_eq!(call(Sysno::personality, [0x0004_0000, 0, 0, 0, 0, 0]), DENY);
        assert_eq!(run(&program, X32 | 1, [0; 6]), DENY);
        assert_eq!(run(&program, 9999, [0; 6]), DENY);
    }

    #[test]
    fn capabilities_open_their_calls() {
        let admin = compile(&default_profile(1 << 21));
        assert_eq!(run(&admin, Sysno::mount.id() as u32, [0; 6]), ALLOW);
        assert_eq!(run(&admin, Sysno::clone.id() as u32, [0x1000_0000, 0, 0, 0, 0, 0]), ALLOW);
    }

    #[test]
    fn comparisons_are_of_64_bits() {
        use oci::LinuxSeccompOperator as O;
        let check = |operator, value: u64, given: u64| {
            let arg = oci::LinuxSeccompArgBuilder::default()
                .index(0usize)
                .op(operator)
                .value(value)
                .build()
                .unwrap();
            let call = oci::LinuxSyscallBuilder::default()
                .names(["read".to_string()])
                .action(oci::LinuxSeccompAction::ScmpActAllow)
                .args([arg])
                .build()
                .unwrap();
            let profile = oci::LinuxSeccompBuilder::default()
                .default_action(oci::LinuxSeccompAction::ScmpActErrno)
                .syscalls([call])
                .build()
                .unwrap();
            run(&compile(&profile), 0, [given, 0, 0, 0, 0, 0]) == ALLOW
        };
        let values = [0, 1, 5, u64::from(u32::MAX), 1 << 32, (1 << 32) + 1, 1 << 40, u64::MAX];
        for value in values {
            for given in values {
                assert_eq!(check(O::ScmpCmpEq, value, given), given == value);
                assert_eq!(check(O::ScmpCmpNe, value, given), given != value);
                assert_eq!(check(O::ScmpCmpGt, value, given), given > value, "{given} > {value}");
                assert_eq!(check(O::ScmpCmpGe, value, given), given >= value, "{given} >= {value}");
                assert_eq!(check(O::ScmpCmpLt, value, given), given < value, "{given} < {value}");
                assert_eq!(check(O::ScmpCmpLe, value, given), given <= value, "{given} <= {value}");
            }
        }
    }
}
