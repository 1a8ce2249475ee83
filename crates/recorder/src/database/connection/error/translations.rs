//! How messages of a PostgreSQL server begin that does not speak English: `lc_messages` is often the language of the system.
//!
//! Diesel does not pass on the SQLSTATE of an error, so that a lock, a timeout or a lost connection without a kind of Diesel's
//! shows in the text alone. A language, a version or a message that is not here has the kind `other`, and never a wrong one. A
//! message whose beginning may be a value is left out, such as Japanese ones that begin with the name of a table.

use crate::database::error::ErrorKind::{
    self, Busy, ConnectionLost, SerializationFailure, Timeout,
};

/// The beginnings, of PostgreSQL 15.
pub(super) const TRANSLATED: &[(&str, ErrorKind)] = &[
    // Chinese, simplified.
    ("检测到死锁", SerializationFailure),
    ("由于语句执行超时", Timeout),
    ("由于锁超时", Timeout),
    ("由于用户请求而正在取消查询", Timeout),
    ("由于管理员命令中断联接", ConnectionLost),
    ("由于空载事务超时而终止连接", ConnectionLost),
    ("中断联接", ConnectionLost),
    ("无法在关系 \"", Busy),
    // French.
    ("interblocage (deadlock) détecté", SerializationFailure),
    ("annulation de la requête", Timeout),
    ("arrêt des connexions suite à", ConnectionLost),
    ("arrêt de la connexion à cause", ConnectionLost),
    ("n'a pas pu obtenir un verrou", Busy),
    // Georgian.
    ("ნაპოვნია ურთიერთბლოკირება", SerializationFailure),
    ("გამოსახულება გაუქმდება ბლოკის", Timeout),
    ("მიერთების შეწყვეტა", ConnectionLost),
    // German.
    ("Verklemmung (Deadlock) entdeckt", SerializationFailure),
    ("storniere Anfrage wegen", Timeout),
    ("Verbindung wird abgebrochen", ConnectionLost),
    ("konnte Sperre für", Busy),
    // Italian.
    ("rilevato deadlock", SerializationFailure),
    ("annullamento dell'istruzione", Timeout),
    ("interruzione della connessione", ConnectionLost),
    ("terminazione della connessione", ConnectionLost),
    ("la connessione è stata terminata", ConnectionLost),
    ("lock di riga nella relazione", Busy),
    ("lock della relazione", Busy),
    // Japanese.
    ("デッドロックを検出しました", SerializationFailure),
    ("ステートメントのタイムアウトのため", Timeout),
    ("ロックのタイムアウトのため", Timeout),
    ("ユーザーからの要求により文をキャンセル", Timeout),
    ("リカバリで競合が発生したため", Timeout),
    ("管理者コマンドにより接続を終了", ConnectionLost),
    (
        "トランザクション中アイドルタイムアウトのため接続を終了",
        ConnectionLost,
    ),
    (
        "アイドルセッションタイムアウトにより接続を終了",
        ConnectionLost,
    ),
    (
        "他のサーバープロセスがクラッシュしたため接続を終了",
        ConnectionLost,
    ),
    // Korean.
    ("deadlock 발생했음", SerializationFailure),
    ("명령실행시간 초과로 작업을 취소", Timeout),
    ("잠금 대기 시간 초과로 작업을 취소", Timeout),
    ("사용자 요청에 의해 작업을 취소", Timeout),
    ("복구 작업 중 충돌이 발생해 작업을 중지", Timeout),
    ("관리자 요청에 의해서 연결을 끝냅니다", ConnectionLost),
    (
        "idle-in-transaction 시간 초과로 연결을 끝냅니다",
        ConnectionLost,
    ),
    ("idle-session 시간 초과로 연결을 끝냅니다", ConnectionLost),
    ("다른 서버 프로세스가 손상을 입어", ConnectionLost),
    // Russian.
    ("обнаружена взаимоблокировка", SerializationFailure),
    ("выполнение оператора отменено", Timeout),
    ("закрытие подключения", ConnectionLost),
    ("не удалось получить блокировку", Busy),
    // Spanish.
    ("se ha detectado un deadlock", SerializationFailure),
    ("cancelando la sentencia debido a", Timeout),
    ("terminando la conexión debido a", ConnectionLost),
    ("no se pudo bloquear un candado", Busy),
    // Swedish.
    ("deadlock upptäckt", SerializationFailure),
    ("avbryter sats på", Timeout),
    ("avslutar anslutning på grund av", ConnectionLost),
    ("terminerar anslutning på grund av", ConnectionLost),
    ("stänger anslutning på grund av", ConnectionLost),
    ("avbryter anslutning på grund av", ConnectionLost),
    ("kunde inte låsa rad i relationen", Busy),
    ("kunde inte ta lås på relationen", Busy),
    // Ukrainian.
    ("виявлено взаємне блокування", SerializationFailure),
    ("виконання оператора скасовано", Timeout),
    ("завершення підключення", ConnectionLost),
    ("не вдалося отримати блокування", Busy),
];
