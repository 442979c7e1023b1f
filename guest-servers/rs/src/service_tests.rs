use alloc::vec::Vec;

use refault_abi::rs::WATCHED;

use super::*;

fn service() -> Service {
    Service::new(WATCHED[1], Endpoint::MFS)
}

/// The next incarnation.
fn successor(service: &Service) -> Endpoint {
    service.endpoint.next_generation()
}

#[test]
fn a_server_that_answers_stays() {
    let mut service = service();
    for period in 0..100 {
        assert_eq!(service.period(false), Step::Ask, "{period}");
        service.beat();
        // An answer that nobody asked for counts nothing.
        service.beat();
    }
    assert_eq!(service.beats, 100);
}

#[test]
fn two_missed_periods_are_a_crash_and_it_is_ended_once() {
    let mut service = service();
    assert_eq!(service.period(false), Step::Ask);
    assert_eq!(service.period(false), Step::Nothing);
    assert_eq!(service.period(false), Step::End);
    assert_eq!(service.period(false), Step::Nothing);
    assert!(!service.is_up());
    assert_eq!(service.died(Endpoint::MFS), Fate::Restart(0));
    assert_eq!(service.period(false), Step::Restart);
}

#[test]
fn a_late_answer_is_an_answer() {
    let mut service = service();
    service.period(false);
    assert_eq!(service.period(false), Step::Nothing);
    service.beat();
    assert_eq!(service.period(false), Step::Ask);
    assert_eq!(service.period(false), Step::Nothing);
}

#[test]
fn who_waits_for_somebody_else_is_excused() {
    let mut service = service();
    service.period(false);
    for _ in 0..100 {
        assert_eq!(service.period(true), Step::Nothing);
    }
    assert_eq!(service.period(false), Step::Nothing);
    assert_eq!(service.period(false), Step::End);
}

#[test]
fn restarts_come_later_and_later_and_end() {
    let mut service = service();
    let mut waits = Vec::new();
    loop {
        match service.died(service.endpoint) {
            Fate::Restart(wait) => {
                waits.push(wait);
                for _ in 1..wait {
                    assert_eq!(service.period(false), Step::Nothing);
                }
                assert_eq!(service.period(false), Step::Restart);
                service.made(successor(&service));
            }
            Fate::GivenUp => break,
            Fate::Stale => panic!("stale"),
        }
    }
    assert_eq!(waits, [0, 1, 2, 4, 8, 16, 30, 30]);
    assert_eq!(service.restarts, RESTARTS_MAX);
    assert!(service.is_given_up());
    assert_eq!(service.died(service.endpoint), Fate::Stale);
    assert_eq!(service.period(false), Step::Nothing);
}

#[test]
fn a_long_quiet_time_makes_up_for_crashes() {
    let mut service = service();
    for _ in 0..3 {
        service.died(service.endpoint);
        service.made(successor(&service));
    }
    for _ in 0..QUIET {
        service.period(false);
        service.beat();
    }
    assert_eq!(service.died(service.endpoint), Fate::Restart(0));
    assert_eq!(service.restarts, 3);
}

#[test]
fn news_of_the_dead_that_is_old_changes_nothing() {
    let mut service = service();
    let first = service.endpoint;
    assert_eq!(service.died(first), Fate::Restart(0));
    assert_eq!(service.died(first), Fate::Stale);
    service.made(successor(&service));
    assert_eq!(service.died(first), Fate::Stale);
    assert!(service.is_up());
    assert_eq!(service.not_made(), Fate::Restart(1));
}
