use super::*;

#[test]
fn a_plan_says_what_differs() {
    let plan = Plan::read(
        "x.toml",
        "name = 'x'\nworkloads = ['read', 'crowd']\nlevels = [1, 2, 'random']\nkinds = ['once']\n\
         policies = ['retry=efault', 'retry=mark mark=id']\nwords = 'fs=whole'\ntimeout = '5s'\nwatchdog = 0\n\
         [bounds]\nfirst = 3\n[oracles]\noff = ['O4', 'image']\n[floor]\nsites = 0.5\n",
    )
    .unwrap();
    assert_eq!(plan.workloads().map(|w| w.name).collect::<Vec<_>>(), ["read", "crowd"]);
    assert_eq!(plan.levels, [Level::One, Level::Two, Level::Random]);
    assert_eq!(plan.kinds().collect::<Vec<_>>(), [Kind::Once]);
    assert_eq!(plan.all_words(), ["retry=efault fs=whole", "retry=mark mark=id fs=whole"]);
    assert_eq!(plan.timeout, Duration::from_secs(5));
    assert_eq!((plan.bounds.first, plan.bounds.second), (3, usize::MAX));
    assert_eq!(plan.oracles.off, [Oracle::Same, Oracle::Image]);
    assert_eq!(plan.seed, 1);
    assert_eq!(Plan::read("empty", "").unwrap(), Plan::default());
    assert_eq!(Plan::default().all_words(), ["retry=hardened watchdog=10000"]);
}

#[test]
fn errors_show_the_line_and_what_would_be_right() {
    for (text, wrong, right) in [
        ("workloads = ['read',\n 'raed']", "raed", "there are requests, read"),
        ("levels = [3]", "levels = [3]", "1, 2 and random"),
        ("kinds = ['thrice']", "thrice", "nth, once, twice"),
        ("policies = ['retry=perhaps']", "retry=perhaps", "efault, mark or hardened"),
        ("timeout = '0s'", "timeout", "write 30s"),
        ("delay = 3", "delay = 3", "expected a string"),
        ("sed = 3", "sed", "unknown field"),
        ("[floor]\nsites = 1.5", "sites = 1.5", "from 0 to 1"),
        ("[oracles]\noff = ['O12']", "O12", "O1"),
        ("[bounds]\nfirst = -1", "first = -1", "invalid value"),
        ("name = ", "name = ", "line 1"),
    ] {
        let said = Plan::read("p.toml", text).unwrap_err().to_string();
        assert!(said.contains("p.toml") && said.contains(wrong) && said.contains(right), "{text}\n{said}");
    }
    for (text, what) in [
        ("workloads = []", "`workloads`"),
        ("kinds = []", "`kinds`"),
        ("policies = []", "`policies`"),
        ("levels = ['random']\nruns = 0", "`runs`"),
    ] {
        assert!(Plan::read("p", text).unwrap_err().to_string().contains(what), "{text}");
    }
}

#[test]
fn every_preset_can_be_read() {
    for (name, _) in crate::campaign::presets::ALL {
        let plan = crate::campaign::presets::find(name).unwrap().unwrap();
        assert_eq!(plan.name, *name);
    }
}
